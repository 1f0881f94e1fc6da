"""For the site's reference of the API: a table of the fields of a class, made of the comments beside them."""

import re

import griffe


class Fields(griffe.Extension):
    """Adds it to the class's docstring."""

    def on_class_members(self, *, cls, **_):
        rows = []
        for field in cls.attributes.values():
            if field.annotation is None or "property" in field.labels:
                continue
            comment = re.search(r"  # (.+)", field.lines[-1])
            kind = str(field.annotation).replace("|", "or")
            default = "" if field.value is None else f"`{field.value}`"
            rows.append([f"`{field.name}`", f"`{kind}`", default, comment[1] if comment else ""])
        if rows and cls.docstring:
            rows = [["field", "type", "default", "what it is"], ["---"] * 4, *rows]
            cls.docstring.value += "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
