"""What commands share: code of a user's own comes first, by --import."""

import pytest
import workdirs

from onebnet_jax import main
from onebnet_jax.commands import agree, convert, figure, report
from onebnet_jax.errors import UserError
from onebnet_jax.ops.binarize import ESTIMATORS

OWN = """
from onebnet_jax.ops import binarize

binarize.ESTIMATORS["own"] = lambda x, window, progress: abs(x) < 2 * window
"""


def test_a_run_with_an_estimator_of_ones_own_is_converted_where_its_code_comes_first(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ESTIMATORS, "own", ESTIMATORS["clip"])
        run = workdirs.trained(tmp_path / "run", ["--config.model.estimator=own"])
    (run / "config.py").write_text(OWN)
    words = [f"--workdir={run}", f"--native={tmp_path / 'model.onb'}"]
    with pytest.raises(UserError, match=f"estimator='own' will not do.*--import={run}/config.py"):
        convert.main(words)
    try:
        convert.main([*words, f"--import={run}/config.py"])
    finally:
        ESTIMATORS.pop("own", None)
    assert (tmp_path / "model.onb").stat().st_size > 10_000


@pytest.mark.parametrize("command", [main, agree, convert, figure, report], ids=lambda module: module.__name__)
def test_a_file_that_cannot_be_run_is_named_with_its_cause(command, tmp_path, capsys):
    (tmp_path / "own.py").write_text("\n1 / 0")
    with pytest.raises(SystemExit) as end:
        command.main([f"--import={tmp_path}/own.py"])
    assert end.value.code == 2
    fault = "cannot be run: ZeroDivisionError: division by zero, in line 2 of"
    assert f"argument --import: {tmp_path}/own.py {fault} {tmp_path}/own.py\n" in capsys.readouterr().err
