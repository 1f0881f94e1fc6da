"""What a traced function consists of, for the tests."""

import jax


def equations(jaxpr):
    """All equations of a jaxpr, nested ones included."""
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(equation.params):
            if hasattr(parameter, "eqns"):
                yield from equations(parameter)


def convolutions(jaxpr):
    """The convolutions among them."""
    return [equation for equation in equations(jaxpr) if equation.primitive.name == "conv_general_dilated"]
