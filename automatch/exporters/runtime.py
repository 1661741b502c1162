"""Operations that emitted modules for transformers bring along, each only where it is used."""

from __future__ import annotations

NAMES = '''
def _number(pattern: str, full_layer_name: str) -> str:
    """Read the layer's number off the full name of a pattern's weight."""
    before, slot, after = pattern.partition(r"\\1")
    if not slot:
        return ""
    rest = full_layer_name.removesuffix(after)
    while before not in rest:  # a bare model's names lack a prefix
        _, _, before = before.partition(".")
    return rest[rest.index(before) + len(before) :]


def _full_names(pattern: str, full_layer_name: str) -> Callable[[str], str]:
    """Give what turns names with a slot for the layer into full names."""
    number = _number(pattern, full_layer_name)
    written = pattern.replace(r"\\1", number)
    lacking, prefix = "", ""
    if written.endswith(full_layer_name):
        lacking = written.removesuffix(full_layer_name)
    elif full_layer_name.endswith(written):
        prefix = full_layer_name.removesuffix(written)

    def full(name: str) -> str:
        return prefix + name.replace(r"\\1", number).removeprefix(lacking)

    return full
'''

LAYER_NAMES = '''
class LayerNames(ConversionOps):
    """Puts the layer's number into the names that the library's operations give.

    It stands at both ends of the operations, because saving goes through them
    backwards. Parts that are joined must have one shape, or saving could not split
    them again.
    """

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        full_layer_name: str,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Name what has been made; what has been read keeps its pattern."""
        shapes = {str(_shape(weight)) for weight in input_dict.values()}
        if len(shapes) > 1:
            raise ValueError(f"{full_layer_name}: parts differ: {sorted(shapes)}")
        full = _full_names(target_patterns[0], full_layer_name)
        return {
            name if name in source_patterns else full(name): weight
            for name, weight in input_dict.items()
        }

    @property
    def reverse_op(self) -> ConversionOps:
        """The same."""
        return self
'''

SHAPE = '''
def _shape(weight: Any) -> Any:
    """Give the shape of a weight, or those of a list or a dictionary of weights."""
    if isinstance(weight, dict):
        return {name: _shape(part) for name, part in weight.items()}
    if isinstance(weight, list):
        return [tuple(part.shape) for part in weight]
    return tuple(weight.shape)
'''

REARRANGE = '''
class Rearrange(ConversionOps):
    """Makes weights of others by a function.

    Saving needs no second function: the first is run on numbers instead of entries,
    which tells where every entry came from. The shapes to go back to are noted on the
    model when it is loaded.

    Args:
        function: Takes the original weights by their names, the model's config and the
            shapes that the new weights have in the model, and gives the new weights by
            their names. In names, `{i}` is the layer; where there is a star, the
            weights are a list.
        sources: The original weights' names.
        targets: The new weights' names.
        undo: Takes the function's arithmetic back, where it has any.
        moves: The function without its arithmetic.
        lossy: Why the original weights cannot be made again, where they cannot.
    """

    supports_many_to_many = True

    def __init__(
        self,
        function: Function,
        sources: list[str],
        targets: list[str],
        undo: Callable[[Tensor, Any], Tensor] | None = None,
        moves: Function | None = None,
        lossy: str = "",
    ) -> None:
        """Keep the arguments."""
        self.function = function
        self.sources = sources
        self.targets = targets
        self.undo = undo
        self.moves = moves or function
        self.lossy = lossy

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, list[Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        full_layer_name: str,
        model: Any,
        config: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Make the weights, and note the shapes of what they are made of."""
        weights: dict[str, Any] = {}
        for name, pattern in zip(self.sources, source_patterns, strict=True):
            if pattern not in input_dict:
                raise ValueError(f"{full_layer_name}: {name} is not in the checkpoint")
            weights[name] = input_dict[pattern]
            if "*" not in name:
                weights[name] = weights[name][0]
        number = _number(target_patterns[0], full_layer_name)
        shapes = {name: _shape(weight) for name, weight in weights.items()}
        vars(model).setdefault("_original_shapes", {})[self.targets[0], number] = shapes
        full = _full_names(target_patterns[0], full_layer_name)
        names = dict(zip(self.targets, map(full, target_patterns), strict=True))
        shapes = {
            name: tuple(model.get_parameter_or_buffer(each).shape)
            for name, each in names.items()
        }
        made = self.function(weights, config, shapes)
        return {names[name]: weight.contiguous() for name, weight in made.items()}

    @property
    def reverse_op(self) -> ConversionOps:
        """What makes the original weights again."""
        if self.lossy:
            raise ValueError(
                f"{self.targets[0]}: {self.lossy}; save_original_format=False saves "
                "the model in its own format"
            )
        return Restore(self)


class Restore(ConversionOps):
    """Makes the original weights of those that `Rearrange` made.

    Args:
        of: The operation that is taken back.
    """

    supports_many_to_many = True

    def __init__(self, of: Rearrange) -> None:
        """Keep the argument."""
        self.of = of

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, list[Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        full_layer_name: str,
        model: Any,
        config: Any,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Put every entry where it came from."""
        number = _number(target_patterns[0], full_layer_name)
        noted = vars(model).get("_original_shapes", {})
        shapes = noted.get((self.of.targets[0], number))
        if shapes is None:
            raise ValueError(
                f"{full_layer_name}: the model was not loaded from an original "
                "checkpoint; save_original_format=False saves it in its own format"
            )
        made = {
            name: input_dict[pattern][0]
            for name, pattern in zip(self.of.targets, source_patterns, strict=True)
            if pattern in input_dict
        }
        if self.of.undo is not None:
            undo = self.of.undo
            made = {name: undo(weight, config) for name, weight in made.items()}
        restored = _restored(self.of.moves, made, shapes, config)
        full = _full_names(target_patterns[0], full_layer_name)
        weights: dict[str, Tensor] = {}
        for name, pattern in zip(self.of.sources, target_patterns, strict=True):
            if "*" not in name:
                weights[full(pattern)] = restored[name]
                continue
            for place, weight in enumerate(restored[name]):
                weights[full(pattern).replace("*", str(place))] = weight
        return weights

    @property
    def reverse_op(self) -> ConversionOps:
        """The operation that is taken back."""
        return self.of


def _restored(
    function: Function, made: dict[str, Tensor], shapes: dict[str, Any], config: Any
) -> dict[str, Any]:
    """Find where a function takes every entry from, and put the entries there."""
    like = next(iter(made.values()))
    # Constants that a function puts in are smaller than the numbers of entries.
    first = 1 << 40
    numbered, total = _each_shape(
        shapes,
        lambda start, shape: torch.arange(
            first + start, first + start + math.prod(shape), device=like.device
        ).reshape(shape),
    )
    entries, known = like.new_empty(total), torch.zeros(total, dtype=torch.bool)
    known = known.to(like.device)
    moved = function(numbered, config, _shape(made))
    for name, weight in made.items():
        if moved[name].shape != weight.shape:
            raise ValueError(f"{name} has another shape than when it was loaded")
        places = moved[name].flatten() - first
        values, places = weight.flatten()[places >= 0], places[places >= 0]
        before, again = entries[places], known[places]
        entries[places], known[places] = values, True
        if (entries[places] != values).any() or (before != values)[again].any():
            raise ValueError(f"{name} differs where it was the same weight as another")
    if not known.all():
        raise ValueError(f"{', '.join(made)} lack entries of {', '.join(shapes)}")
    restored, _ = _each_shape(
        shapes,
        lambda start, shape: entries[start : start + math.prod(shape)].reshape(shape),
    )
    return restored


def _each_shape(
    shapes: dict[str, Any], make: Callable[[int, tuple[int, ...]], Tensor]
) -> tuple[dict[str, Any], int]:
    """Make a tensor for every shape, told how many entries the others had before."""
    made: dict[str, Any] = {}
    start = 0
    for name, shape in shapes.items():
        parts = []
        for each in shape if isinstance(shape, list) else [shape]:
            parts.append(make(start, each).clone())
            start += math.prod(each)
        made[name] = parts if isinstance(shape, list) else parts[0]
    return made, start
'''

NUMBERED = '''
class NumberedRenaming(WeightRenaming):
    """Renames keys with several numbers, some of which are counted from elsewhere.

    Args:
        source: The original key, a name in braces in the place of each number.
        target: The new key.
        offsets: By how much numbers are larger in the original key.
    """

    __slots__ = ("offsets", "source", "target")

    def __init__(self, source: str, target: str, **offsets: int) -> None:
        """Look for the original key."""
        self.source, self.target, self.offsets = source, target, offsets
        pattern = re.sub(r"{\\w+}", r"(\\\\d+)", source.replace(".", r"\\."))
        super().__init__(source_patterns=f"^{pattern}", target_patterns=target)

    def rename_source_key(self, source_key: str) -> tuple[str, str | None]:
        """Give the new key and the pattern that it came by; None for other keys."""
        matched = self._scoped_match(source_key)
        if matched is None:
            return source_key, None
        prefix, key, found = matched
        names = re.findall(r"{(\\w+)}", self.source)
        pairs = zip(names, found.groups()[1:], strict=True)
        numbers = {name: int(n) - self.offsets.get(name, 0) for name, n in pairs}
        if min(numbers.values()) < 0:
            return source_key, None
        self._was_used = True
        renamed = key.replace(found.group(0), self.target.format(**numbers), 1)
        return (prefix or "") + renamed, self.source_patterns[0]

    def reverse_transform(self) -> NumberedRenaming:
        """Give the renaming that is applied when saving."""
        offsets = {name: -offset for name, offset in self.offsets.items()}
        back = NumberedRenaming(self.target, self.source, **offsets)
        back.scope_prefix = self.scope_prefix
        back.base_model_prefix = self.base_model_prefix
        return back
'''
