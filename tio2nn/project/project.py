"""The project directory: how it is found, made and locked, and its messages about missing files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tio2nn.errors import InputError, MissingInputError, UsageError
from tio2nn.files.lock import joined, locked
from tio2nn.files.paths import AnyPath
from tio2nn.files.special_files import is_special
from tio2nn.parameters.draft import Draft, load_parameters
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.project.entries import ENTRIES, PARAMETERS_NAME, Entry
from tio2nn.project.layout import Layout

ENVIRONMENT_VARIABLE = "TIO2NN_PROJECT"


@dataclass(frozen=True, init=False)
class Project(Layout):
    """A directory with a `params.json` and the results of the commands.

    Attributes:
        root: the directory as the user would type it; all paths begin with it, and messages show it.
    """

    root: Path

    def __init__(self, root: AnyPath) -> None:
        object.__setattr__(self, "root", Path(root))

    @classmethod
    def find(
        cls, explicit: AnyPath | None = None, environ: Mapping[str, str] = os.environ, cwd: AnyPath = Path()
    ) -> Project:
        """The named project, else the one in TIO2NN_PROJECT, else the nearest in this or a parent directory.

        Args:
            explicit: the directory that the user named, if any.
            environ: the environment variables.
            cwd: where the search starts; the two names are relative to it.

        Raises:
            MissingInputError: no `params.json` there.
            InputError: a pipe, a socket or a device instead of a file.
            UsageError: the name of a file.
        """
        cwd = Path(cwd)
        if explicit is not None:
            return cls(cwd / explicit)._existing()
        if named := environ.get(ENVIRONMENT_VARIABLE):
            return cls(cwd / named)._existing(named_by=ENVIRONMENT_VARIABLE)
        start = cwd.absolute()
        for directory in (start, *start.parents):
            if (directory / PARAMETERS_NAME).is_file():
                return cls(_as_typed(directory))._existing()
        place = cls(_as_typed(start)).shown()
        there = sorted(path.parent.name for path in start.glob(f"*/{PARAMETERS_NAME}"))
        advice = (
            f"name a project with -C, such as -C {shlex.quote(there[0])}"
            if there
            else 'run "tio2nn init" first'
        )
        raise MissingInputError(f"no {PARAMETERS_NAME} in {place} or above; {advice}")

    @classmethod
    def create(cls, root: AnyPath, parameters: ParameterSet | Draft, *, exist_ok: bool = False) -> Project:
        """Create a project in a new or existing directory; with `exist_ok`, an existing project is kept.

        Raises:
            UsageError: the project exists already, or `root` is a file.
            OSError: the directory is not writable.
        """
        # imported here, as a command that only finds a project does not need it
        from tio2nn.files.atomic import atomic_write

        project = cls(root)
        project._check_directory()
        if not project.parameters_file.exists():
            with atomic_write(project.parameters_file, "w") as handle:
                handle.write(parameters.to_json())
        elif not exist_ok:
            raise UsageError(f"cannot create a project: {project.parameters_file} exists already")
        return project._existing()

    def _existing(self, named_by: str = "") -> Project:
        self._check_directory()
        if not self.parameters_file.is_file():
            raise self._missing(self.parameters_file, named_by)
        self._check_kinds()
        return self

    def _check_kinds(self) -> None:
        """Refuse special files, which could block, in an untrusted project."""
        for place in (self.root / entry.path for entry in ENTRIES):
            suspects = [place]
            if place.is_dir():
                with suppress(OSError), os.scandir(place) as inside:  # reported when it is read
                    # scandir knows the kinds of 100,000 files in 0.05 s; a stat call for each takes 1 s
                    suspects = [Path(item) for item in inside if not (item.is_file() or item.is_dir())]
            for path in suspects:
                if is_special(path):
                    raise InputError(
                        "expected a regular file, got a pipe, a socket or a device", file=str(path)
                    )

    def _check_directory(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root}: expected a project directory, got a file")

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Hold the project lock, and remove temporary files of killed commands.

        Raises:
            InputError: another command is running; the message names it.
        """
        from tio2nn.files.atomic import remove_unfinished

        with locked(self.root, command) as is_alone:
            if is_alone:
                # init holds no lock
                for entry in (entry for entry in ENTRIES if entry.command != "init"):
                    remove_unfinished(self.root / entry.path)
            yield

    def joined(self, command: str, never_beside: str | None = None) -> AbstractContextManager[None]:
        """Hold the lock of one job of an array, which does not wait for other jobs; `command` names its work.

        Args:
            command, never_beside: as for `tio2nn.files.lock.joined`.

        Raises:
            InputError: the same job, one that it must not be beside, or a command that is no job is running; the
                message names it.
        """
        return joined(self.root, command, never_beside)

    def command(self, words: str) -> str:
        """A command line for this project, ready to be pasted: "tio2nn train -C DIR"."""
        verb, *options = words.split()
        place = self.as_option()
        if verb == "init" and self.root != Path():
            place = f" {shlex.quote(str(self.root))}"
        return " ".join([f"tio2nn {verb}{place}", *options])

    def shown(self) -> str:
        """The directory, for messages."""
        return "the current directory" if self.root == Path() else str(self.root)

    def as_option(self) -> str:
        """The option that selects this project from the current directory: " -C DIR" or nothing."""
        return "" if self.root == Path() else f" -C {shlex.quote(str(self.root))}"

    def parameters(self) -> ParameterSet:
        """Read `params.json`.

        Raises:
            MissingInputError: there is no such file, or its functions are not chosen yet.
            InputError: it is no parameter set.
        """
        return self.chosen(self.parameters_or_draft())

    def chosen(self, found: ParameterSet | Draft) -> ParameterSet:
        """What `params.json` holds, if its functions are chosen; error as for `parameters`."""
        if isinstance(found, Draft):
            reason = f"no symmetry functions in {self.parameters_file} yet; extract chooses them"
            raise MissingInputError(f'{reason}; run "tio2nn extract{self.as_option()} SOURCE..." first')
        return found

    def parameters_or_draft(self) -> ParameterSet | Draft:
        """Read `params.json`, whether its functions are chosen or not.

        Raises:
            MissingInputError: there is no such file.
            InputError: it is neither.
        """
        return load_parameters(self.existing_file(self.parameters_file))

    def entry_of(self, path: Path) -> Entry:
        """The entry that a path of this project belongs to."""
        first = path.relative_to(self.root).parts[0]
        return next(entry for entry in ENTRIES if entry.path == first)

    def existing_file(self, path: Path) -> Path:
        """A file of this project, which may be out of date (`Snapshot.require`).

        Raises:
            MissingInputError: it does not exist; the message names the command that makes it.
            InputError: it does not exist, and `params.json` is invalid.
        """
        if not path.exists():
            if path != self.parameters_file:
                self.parameters()  # every command needs them first
            raise self._missing(path)
        return path

    def _missing(self, path: Path, named_by: str = "") -> MissingInputError:
        entry = self.entry_of(path)
        # after an interrupted command the entry may exist without this file
        name = path.relative_to(self.root).as_posix() if (self.root / entry.path).exists() else entry.name
        origin = f" (named by {named_by})" if named_by else ""
        command = self.command(entry.command) + (" SOURCE..." if entry.command == "extract" else "")
        return MissingInputError(f'no {name} in {self.shown()}{origin}; run "{command}" first')


def command_for(file: AnyPath, words: str) -> str:
    """`Project.command` for the project with this file in one of its folders, such as `features/manifest.json`."""
    return Project(Path(file).parent.parent).command(words)


def _as_typed(directory: Path) -> Path:
    """`.`, `..`, `../..` for the current directory and those above it."""
    here = Path.cwd()
    return Path(os.path.relpath(directory, here)) if directory in (here, *here.parents) else directory
