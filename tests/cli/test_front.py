"""The shell around the model: help at once, public names, and a README that tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import kinema
from kinema.cli import COMMANDS, build_parser, main

ROOT = Path(__file__).parents[2]
PACKAGE = Path(kinema.__file__).parent


def modules_after(statement: str) -> set[str]:
    """The names of the modules that a fresh interpreter holds after a statement."""
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.parametrize("statement", ["import kinema", "import kinema.cli\nkinema.cli.build_parser().format_help()"])
def test_neither_the_package_nor_its_help_waits_for_torch(statement: str):
    assert not modules_after(statement) & {"torch", "numpy", "transformers", "rich", "av"}


def test_every_public_name_is_there_and_no_other():
    assert sorted(kinema.__all__) == kinema.__all__
    assert set(kinema.HOMES) <= set(kinema.__all__)
    for name in kinema.__all__:
        assert getattr(kinema, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = kinema.nonsense


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert COMMANDS[name][0].split()[-1] in capsys.readouterr().out
    assert f"    {name}" in build_parser().format_help()


def test_the_map_in_the_readme_is_the_package():
    listed = set(re.findall(r"^\| `([\w/]+(?:\.py)?)` ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    rooms = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")}
    hidden = {"__init__.py", "__main__.py", "errors.py"}
    assert {name.split("/")[0] + "/" * ("/" in name) for name in listed} >= rooms - hidden
    assert all((PACKAGE / name).exists() for name in listed)


def test_the_pinned_versions_cover_every_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {re.split(r"[><=\[]", name)[0].lower().replace("_", "-") for name in wanted} <= pinned
