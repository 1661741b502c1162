from __future__ import annotations

import pytest

from automatch.conversion.naming import renamed

KEYS = ["embed.weight", "layers.0.w", "layers.1.w"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "net.inner.model."])
def test_a_prefix_that_all_keys_share_is_taken_off_and_said(prefix: str) -> None:
    names, note = renamed([prefix + key for key in KEYS], KEYS)
    assert names == {key: prefix + key for key in KEYS}
    assert note


def test_a_prefix_that_the_mapping_has_as_well_stays() -> None:
    keys = ["model." + key for key in KEYS]
    assert renamed(keys, keys) == ({key: key for key in keys}, "")


def test_a_prefix_that_only_the_mapping_has_is_put_before() -> None:
    names, note = renamed(KEYS, ["model." + key for key in KEYS])
    assert names == {"model." + key: key for key in KEYS}
    assert note == "every key was read as if it began with 'model.'"


def test_wrappers_of_single_layers_are_left_out() -> None:
    names, note = renamed(["embed.weight", "layers.0._orig_mod.w", "layers._fsdp_wrapped_module.1.w"], KEYS)
    assert names == dict(
        zip(KEYS, ["embed.weight", "layers.0._orig_mod.w", "layers._fsdp_wrapped_module.1.w"], strict=True)
    )
    assert note == "names of wrappers inside the keys were left out"


def test_a_prefix_that_some_keys_lack_is_nobodys_wrapper() -> None:
    found = ["module.embed.weight", "module.layers.0.w", "step"]
    assert renamed(found, KEYS) == ({key: key for key in found}, "")


def test_two_keys_are_never_read_as_one() -> None:
    found = ["layers.0.w", "layers.0._orig_mod.w"]
    assert renamed(found, ["layers.0.w", "layers.1.w"]) == ({key: key for key in found}, "")
