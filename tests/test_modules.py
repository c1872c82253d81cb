"""Every module can be imported by itself: the linters cannot see an undefined name, since shapes in signatures look like some."""

import importlib
import pkgutil

import pytest

import kinema
from kinema.errors import MissingExtraError

MODULES = [module.name for module in pkgutil.walk_packages(kinema.__path__, "kinema.") if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_the_module_can_be_imported(name: str):
    try:
        importlib.import_module(name)
    except MissingExtraError as error:  # an extra that `make setup` leaves out
        pytest.skip(str(error))
