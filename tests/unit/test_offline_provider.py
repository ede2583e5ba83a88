"""The offline provider's diff, as the engine reads it."""

from pulumi.runtime.proto import provider_pb2

from lab.azure.provider import _detailed

KIND = provider_pb2.PropertyDiff.Kind


def test_each_changed_property_has_its_path_and_kind() -> None:
    old = {"profile": {"image": {"publisher": "Canonical", "sku": "server"}, "size": "D4", "zones": ["1"]}}
    new = {"profile": {"image": {"id": "/images/1"}, "size": "D8", "zones": ["1"]}}
    assert dict(_detailed("profile", old, new, replaces=False)) == {
        "profile.image.id": KIND.ADD,
        "profile.image.publisher": KIND.DELETE,
        "profile.image.sku": KIND.DELETE,
        "profile.size": KIND.UPDATE,
    }, "the engine compares these paths with `replace_on_changes`"
    assert dict(_detailed("profile", old, {"profile": {"size": "D4"}}, replaces=True)) == {
        "profile.image": KIND.DELETE_REPLACE,
        "profile.zones": KIND.DELETE_REPLACE,
    }
    assert dict(_detailed("zones", {"zones": ["1"]}, {"zones": ["2"]}, replaces=True)) == {
        "zones": KIND.UPDATE_REPLACE
    }, "a list is one property"
    assert dict(_detailed("zones", {}, {"zones": ["2"]}, replaces=True)) == {"zones": KIND.ADD_REPLACE}
