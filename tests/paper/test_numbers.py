"""The paper's figures."""

from onebnet_jax.paper import numbers


def test_table1_has_twelve_rows_with_labels_of_their_own():
    labels = [row.label for row in numbers.TABLE1]
    assert len(set(labels)) == 12 and {"ReActNet18", "TypeI", "TypeII", "TypeIII", "conv256_512_ds128"} < set(labels)
    assert all(numbers.table1_row(row.label) == row and "/" not in row.label for row in numbers.TABLE1)
