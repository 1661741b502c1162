"""The commands, and what becomes of their errors.

Exit status: 0 right, 1 an answer that is short of what was asked, 2 an error that the message explains, 130
interrupted; `docs/command-line.md` has the table, `automatch.cli.statuses` decides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from automatch import __version__
from automatch.cli import statuses
from automatch.cli.options import CONVERT, MATCH, ConvertOptions, Flag, MatchOptions, Maybe, Output, Progress, Shapes
from automatch.errors import AutomatchError
from automatch.interruption import let_through

app = App(
    name="automatch",
    help="Finds out by itself how one PyTorch model's weights map onto another's, and says why.",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit status.

    Args:
        arguments: The words after the program's name; None for those of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(words, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:  # already printed
        return statuses.ERROR
    except AutomatchError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return statuses.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        let_through(error)
        if error.filename is None:
            raise
        return _failed(f"{error.filename}: {error.strerror}")
    return status if isinstance(status, int) else statuses.RIGHT


@app.command
def match(
    source: str,
    target: str,
    /,
    *,
    output: Output,
    source_inputs: str | None = None,
    target_inputs: str | None = None,
    source_input: Shapes = (),
    target_input: Shapes = (),
    source_twin: str | None = None,
    target_twin: str | None = None,
    options: MatchOptions = MATCH,
) -> int:
    """Find out what every weight of TARGET is made of, and write the mapping.

    Exit status 1 if the mapping is refuted, has unmapped keys, or does not meet --require; it is written all the same.

    Args:
        source: The model that has the weights: `package.module:factory`, `file.py:factory`, or a checkpoint. A factory
            is called without arguments and gives an nn.Module, an ExportedProgram or a state dict.
        target: The model that needs them, named in the same way.
        output: The mapping file to write.
        source_inputs: Function beside the source's factory (or `other.py:NAME`) that gives its example inputs:
            (args, kwargs), a tuple, a dict or a tensor. Without it, `<factory>_inputs` is used where there is one.
        target_inputs: The same for the target.
        source_input: An example input of the source as its shape, `x=f32[1,16,8,8]`; `f32[1,16]` is positional.
            Content is drawn by the use that the model makes of it: ids over the whole vocabulary, masks, positions in
            order. Repeatable.
        target_input: The same for the target.
        source_twin: Factory of a small model of the source's code, for models too large to run: the mapping is found
            and proved between the twins, and carried over. Its inputs are those of `<factory>_inputs`.
        target_twin: The same for the target; its sizes must be to the source's twin's as the models' are.
        options: How to go about it.
    """
    from automatch.cli.matching import run

    ours, theirs = (source, source_inputs, source_input), (target, target_inputs, target_input)
    return run(ours, theirs, output, options, twins=(source_twin, target_twin))


@app.command
def show(mapping: Path, key: str | None = None, /) -> None:
    """Show a mapping: its verdict, its summary and a row per weight, or everything about one weight.

    Args:
        mapping: The mapping file.
        key: A key of the target (or of the source), or a glob such as `blocks.0.*`: tells its expression, status and
            evidence.
    """
    from automatch.cli.console import show as display
    from automatch.mapping import load
    from automatch.report.detail import detail, listing, select
    from automatch.report.summary import summary

    record = load(mapping).record
    if key is None:
        display([*summary(record), *listing(record)])
        return
    display([part for entry in select(record, key) for part in detail(record, entry)])


@app.command
def check(mapping: Path, expected: Path, /, *, update: Flag = False) -> int:
    """Compare a mapping with what is expected of it; exit status 1 if they differ.

    Args:
        mapping: The mapping file.
        expected: The expectation file, or another mapping.
        update: Where they differ, make the expectation file say what the mapping has (or write the first one), print
            what was different, and exit with 0. Look at what changed before you keep it.
    """
    from automatch.check import written
    from automatch.cli.verdicts import told
    from automatch.mapping import load

    found = load(mapping)
    if not expected.exists() and not update:
        raise AutomatchError(f"{expected}: there is no such expectation file.\nNext: --update writes it.")
    told(found.record, str(mapping))
    report = found.check(expected) if expected.exists() or not update else None
    if report is not None:
        print(report)
    if update and written.update(found.record, expected):
        print(f"wrote {expected}")
        return statuses.RIGHT
    return statuses.of("" if report is not None and report.ok else "the mapping is not as expected")


@app.command
def prove(
    source: str,
    target: str,
    /,
    *,
    mapping: Path,
    output: Maybe = None,
    draws: int = 3,
    source_inputs: str | None = None,
    target_inputs: str | None = None,
    source_input: Shapes = (),
    target_input: Shapes = (),
    progress: Progress = True,
) -> int:
    """Run both models on fresh random weights under a mapping; exit status 1 unless their outputs agree.

    Args:
        source: The model that has the weights, as for `match`; it is built with real tensors.
        target: The model that needs them.
        mapping: A mapping file, whoever wrote it, an expectation file, or a rules file (.toml).
        output: Where to write the mapping with what was shown.
        draws: How many draws of all source weights, at least three.
        source_inputs: Function that gives the source's example inputs, as for `match`. Inputs of both sides that hold
            the same values are drawn anew.
        target_inputs: The same for the target.
        source_input: An example input of the source as its shape, `x=f32[1,16,8,8]`; content is drawn as for `match`.
            Repeatable.
        target_input: The same for the target.
        progress: Show progress on stderr; --quiet is another spelling of --no-progress.
    """
    from automatch.cli.proving import run

    return run(
        (source, source_inputs, source_input),
        (target, target_inputs, target_input),
        mapping,
        output,
        draws=draws,
        quiet=not progress,
    )


@app.command
def convert(
    checkpoint: Path,
    /,
    *,
    mapping: Path,
    output: Output,
    options: ConvertOptions = CONVERT,
) -> None:
    """Convert a checkpoint of the source model into one of the target model, in bounded memory.

    Under `torchrun --nproc-per-node N -m automatch convert ...` the processes share the work.

    Args:
        checkpoint: The source model's checkpoint: a safetensors, .pt, .pth or .bin file, an index of shards, a folder
            with one of these, or a folder that torch.distributed.checkpoint wrote.
        mapping: The mapping file.
        output: A file that ends in .safetensors, or a folder.
        options: What both commands have in common.
    """
    _convert(checkpoint, mapping, output, options)


@app.command
def apply(mapping: Path, checkpoint: Path, /, *, output: Output, options: ConvertOptions = CONVERT) -> None:
    """Convert a checkpoint; the same as `convert`, the mapping first.

    Args:
        mapping: The mapping file.
        checkpoint: The source model's checkpoint.
        output: A file that ends in .safetensors, or a folder.
        options: What both commands have in common.
    """
    _convert(checkpoint, mapping, output, options)


@app.command
def verify(checkpoint: Path, /, *, entry: str | None = None) -> int:
    """Hold a checkpoint against the digests, or checksums, that were written with it; exit status 1 if it is damaged.

    Args:
        checkpoint: What `convert --digests` wrote, or an archive of `torch.save`.
        entry: The entry of a .pt, .pth or .bin file that is meant, where there are several.
    """
    from automatch.cli.verifying import run

    return run(checkpoint, entry)


@app.command
def rules(
    mapping: Path,
    /,
    *more: Path,
    output: Maybe = None,
    size: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
) -> None:
    """Print a mapping as rules that hold for every layer, and for other models of the family.

    Args:
        mapping: The mapping file.
        more: Mappings between other models of the same two families: what one example leaves open, two may decide.
        output: Where to write the rules file, instead of printing it.
        size: What a size is that was equal to others where the mapping was made: where it is read,
            `heads=source.config.num_heads`, or its number. A star stands for several names. Repeatable.
    """
    from automatch.cli.ruling import learn

    learn([mapping, *more], output, size)


@app.command
def adapt(
    rules: Path,
    source: str,
    target: str,
    /,
    *,
    output: Output,
    size: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
) -> int:
    """Carry rules over to two models, and write the mapping; exit status 1 if some weights are left undetermined.

    Args:
        rules: The rules file.
        source: The model that has the weights: a checkpoint, or a factory as for `match`; its code is not run.
        target: The model that needs them.
        output: The mapping file to write.
        size: A size that is given, `heads=32`, or where it is to be read, `heads=source.config.num_heads`. Repeatable.
    """
    from automatch.cli.ruling import adapt as run

    return run(rules, source, target, output, size)


@app.command
def export(
    rules: Path,
    /,
    *,
    to: Literal["python", "transformers"],
    output: Maybe = None,
    optional: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    size: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
) -> None:
    """Write rules as code that converts checkpoints: a plain function, or conversions for transformers 5.

    Args:
        rules: The rules file, or a mapping file to learn rules from.
        to: The form of the code.
        output: Where to write the module, instead of printing it.
        optional: The target pattern of a rule whose sources only some layers have. Repeatable.
        size: What a size is that was equal to others where the rules come from, `heads=source.config.num_heads`, or its
            number. Repeatable.
    """
    from automatch.cli.exporting import run

    run(rules, to, output, optional, size)


@app.command
def suggest(
    source: str,
    /,
    *,
    target: str | None = None,
    output: Maybe = None,
    rules: Path | None = None,
    library: Annotated[tuple[Path, ...], Parameter(show_default=False)] = (),
) -> int:
    """Draft a mapping for a model that nobody has mapped, from what is known of others; nothing is run.

    The exit status is 1 if keys of the target are left without a source.

    Args:
        source: The model that has the weights: a checkpoint, or a factory as for `match`; its code is not run.
        target: The model that needs them; without it, the model that the best known conversion leads to.
        output: Where to write the draft, a mapping file for `check`, `prove` and `convert`.
        rules: Where to write the draft as rules.
        library: A folder with further known conversions, as `remember` writes them. Repeatable.
    """
    from automatch.cli.suggesting import run

    return run(source, target, output, rules, library)


@app.command
def remember(mapping: Path, /, *, name: str, family: str, output: Output) -> None:
    """Write a proved mapping as a known conversion, for `suggest --library`.

    Args:
        mapping: The mapping file; a run of both models must have proved it.
        name: What to call the conversion ("ours to theirs").
        family: The architecture; conversions of one family tell most about each other.
        output: The file to write; its name ends in .toml.
    """
    from automatch.cli.suggesting import remember as run

    run(mapping, name, family, output)


@app.command
def demo(*, small: Flag = False, full: Flag = False) -> None:
    """Match a 14-billion-parameter video model to a small image model, then a small pair with real weights.

    Args:
        small: Only the small pair: match, apply, save, load strictly.
        full: Only the full-size pair, on the meta device.
    """
    from automatch.cli.demo import run

    run(small=small or not full, full=full or not small)


def _convert(checkpoint: Path, mapping: Path, output: Path, chosen: ConvertOptions) -> None:
    from automatch.cli.converting import run
    from automatch.conversion.convert import Options

    names = [field.name for field in fields(Options)]  # the same on both sides
    options = Options(**{name: getattr(chosen, name) for name in names})
    run(checkpoint, mapping, output, options, format=chosen.format, dry_run=chosen.dry_run, quiet=not chosen.progress)


def _failed(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return statuses.ERROR


def _reader_gone() -> int:
    """End quietly where the reader of stdout (`head`, a closed pager) has gone."""
    # Python flushes stdout once more at exit, which would fail again
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return statuses.READER_GONE
