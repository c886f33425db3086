"""Find a user's function in the project's folder, without leaving traces in `sys.path`.

A folder with `__init__.py` is a package: its modules are imported under the package's name, so
that a function is the same object as in a plain import. Any other folder is put first on
`sys.path` while its module is imported and while its functions run; a module of another project
with the same name steps aside meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from proa.errors import InvalidInput, NotFound

_lock = threading.RLock()
_modules: dict[Path, dict[str, ModuleType]] = {}


def resolve(folder: Path, name: str, *, where: str) -> Any:
    """Import `module:function` relative to `folder`.

    Args:
        folder: the project's folder.
        name: `module:function`; dots in `module` name sub-packages.
        where: what to name in errors, `proa.yaml: train.function`.

    Raises:
        NotFound: the module or its function is missing.
        InvalidInput: the module cannot be imported; the first error inside it is named.
    """
    module_name, _, attribute = name.partition(":")
    _check_exists(folder, module_name, name, where)
    package = _package_of(folder)
    with _lock:
        try:
            if package is not None:
                module = _import_from_package(folder, package, module_name, where)
            else:
                with importing(folder):
                    module = importlib.import_module(module_name)
        except (InvalidInput, NotFound):
            raise
        except Exception as error:
            raise InvalidInput(
                f"{where} = {name!r}: importing {module_name} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
    try:
        found = getattr(module, attribute)
    except AttributeError as error:
        raise NotFound(f"{where} = {name!r}: {module_name}.py has no {attribute}") from error
    return found if package is not None or not inspect.isfunction(found) else _bound(folder, found)


@contextlib.contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Put `folder` first on `sys.path` and its own modules into `sys.modules` while inside."""
    folder = folder.resolve()
    names = _own_names(folder)
    with _lock:
        displaced = {
            key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] in names
        }
        own = _modules.setdefault(folder, {})
        sys.modules.update(own)
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with _lock, contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        with _lock:
            for key in list(sys.modules):
                if key.split(".")[0] in names:
                    own[key] = sys.modules.pop(key)
            sys.modules.update(displaced)


def _bound(folder: Path, function: Any) -> Any:
    """A function that finds its sibling modules also when it imports them late."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with importing(folder):
            return function(*args, **kwargs)

    return call


def _own_names(folder: Path) -> set[str]:
    names = {path.stem for path in folder.glob("*.py")}
    names |= {path.parent.name for path in folder.glob("*/__init__.py")}
    return {name for name in names if name.isidentifier() and name not in sys.stdlib_module_names}


def _package_of(folder: Path) -> str | None:
    has_init = (folder / "__init__.py").is_file()
    return folder.resolve().name if has_init and folder.resolve().name.isidentifier() else None


def _import_from_package(folder: Path, package: str, module: str, where: str) -> ModuleType:
    parent = str(folder.resolve().parent)
    sys.path.insert(0, parent)
    try:
        root = importlib.import_module(package)
        if folder.resolve() not in {Path(path).resolve() for path in root.__path__}:
            raise InvalidInput(
                f"{where}: a package {package!r} from {next(iter(root.__path__))} is already "
                f"imported; expected the one in {folder}",
                hint="rename the project's folder, or remove its __init__.py",
            )
        return importlib.import_module(f"{package}.{module}")
    finally:
        sys.path.remove(parent)


def _check_exists(folder: Path, module: str, name: str, where: str) -> None:
    path = folder.joinpath(*module.split("."))
    if not path.with_suffix(".py").is_file() and not (path / "__init__.py").is_file():
        raise NotFound(f"{where} = {name!r}: there is no {module.replace('.', '/')}.py in {folder}")
    if module.split(".")[0] in sys.stdlib_module_names and _package_of(folder) is None:
        raise InvalidInput(
            f"{where} = {name!r}: {module}.py has the name of a standard library module; rename it"
        )
