"""A stack's state in the in-process front, and how a run brings the offline Azure to what the program registers."""

import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab.azure import rules
from lab.azure.azure import Subscription, digest
from lab.azure.recorder import Registration
from lab.azure.rules import AzureError


class Step(StrEnum):
    """The operation on a resource, in the engine's terms."""

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass
class Deployed:
    """One resource of the stack as it was last deployed, with a digest in place of each secret input."""

    id: str
    token: str
    name: str
    inputs: dict[str, Any]
    protect: bool
    retain: bool
    replaced: int = 0
    """How often it was replaced: part of its automatic name."""
    replace_on_changes: tuple[str, ...] = ()
    """Inputs whose change replaces it, besides those of its type."""


@dataclass
class Deployment:
    """One stack: its resources by URN, its outputs, and the operations of the present or last run."""

    azure: Subscription
    resources: dict[str, Deployed] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    superseded: list[Deployed] = field(default_factory=list)
    """Replaced resources that still exist in Azure; the end of a run deletes them."""
    steps: dict[str, Step] = field(default_factory=dict)
    """The last run's operation on each resource, by URN."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @staticmethod
    def load(azure: Subscription, path: Path) -> "Deployment":
        """The stack that is saved in a file; an empty stack if the file does not exist."""
        if not path.exists():
            return Deployment(azure)
        state = json.loads(path.read_text(encoding="utf-8"))
        resources = {urn: Deployed(**each) for urn, each in state["resources"].items()}
        return Deployment(
            azure, resources, state["outputs"], [Deployed(**each) for each in state.get("superseded", [])]
        )

    def save(self, path: Path) -> None:
        """Write the stack to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "resources": {urn: asdict(each) for urn, each in self.resources.items()},
            "outputs": self.outputs,
            "superseded": [asdict(each) for each in self.superseded],
        }
        path.write_text(json.dumps(state, indent=1), encoding="utf-8")

    @property
    def changes(self) -> dict[str, int]:
        """The last run's number of resources by operation, without `same`; empty if nothing changed."""
        return dict(Counter(step.value for step in self.steps.values() if step is not Step.SAME))

    def begin(self) -> None:
        """Begin a run: clear the last run's operations."""
        self.steps = {}

    def apply(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        """Create, update or replace one resource as registered; returns its id and outputs.

        Raises:
            AzureError: Azure would refuse the operation, or the resource is protected and would have to be replaced.
        """
        with self._lock:
            old = self.resources.get(wanted.urn)
        replaced = old.replaced if old else 0
        inputs = self._checked(wanted, old, replaced)
        if old:
            for path in wanted.request.ignoreChanges:
                _ignore_change(inputs, old.inputs, path)
        if old is None:
            return self._create(wanted, inputs, Step.CREATE, 0)
        now = _without_secrets(inputs, wanted)
        changed = self.azure.diff(wanted.type, old.inputs, now)
        if any(changed.values()) or any(
            _at(old.inputs, path) != _at(now, path) for path in wanted.request.replaceOnChanges
        ):
            if wanted.request.protect:
                raise AzureError(
                    f"{wanted.name} is protected and would be replaced, since {', '.join(changed)} changed"
                )
            if wanted.request.deleteBeforeReplace:
                self._delete_dependents(old)
                self._delete(old)
            fresh = self._checked(wanted, None, replaced + 1)
            made = self._create(wanted, fresh, Step.REPLACE, replaced + 1)
            if not wanted.request.deleteBeforeReplace:
                self.superseded.append(old)
            return made
        if changed or wanted.type.startswith("random:"):
            outputs = self.azure.update(wanted.type, wanted.name, old.id, inputs)
        else:
            read = self.azure.read(old.id, inputs)
            if read is None:
                return self._create(wanted, inputs, Step.CREATE, replaced)
            outputs = read[1]
        self._keep(wanted, old.id, inputs, Step.UPDATE if changed else Step.SAME, replaced)
        return old.id, outputs

    def finish(self, registered: Mapping[str, Registration]) -> None:
        """Delete the resources that this run did not register, the newest first.

        Args:
            registered: this run's registrations by URN.

        Raises:
            AzureError: a resource is protected, or Azure refuses to delete it.
        """
        self._remove_superseded()
        gone = [urn for urn in self.resources if urn not in registered]
        if protected := [self.resources[urn].name for urn in gone if self.resources[urn].protect]:
            raise AzureError(
                f"protected, so not deleted: {', '.join(sorted(protected))}; wanted it unprotected first"
            )
        for urn in reversed(gone):
            self._remove(urn)

    def destroy(self) -> None:
        """Delete all resources, including protected ones, the newest first."""
        self.begin()
        self._remove_superseded()
        for urn in reversed(list(self.resources)):
            self._remove(urn)
        self.outputs = {}

    def _remove_superseded(self) -> None:
        while self.superseded:
            self._delete(self.superseded[-1])
            self.superseded.pop()

    def _remove(self, urn: str) -> None:
        self._delete(self.resources[urn])
        del self.resources[urn]
        self.steps[urn] = Step.DELETE

    def _delete(self, resource: Deployed) -> None:
        if not resource.retain:
            self.azure.delete(resource.token, resource.name, resource.id)

    def _delete_dependents(self, condemned: Deployed) -> None:
        """Delete what a replacement of this resource will replace too, as the engine does before it deletes one."""
        for urn, each in reversed(list(self.resources.items())):
            replacing = [
                value
                for key, value in each.inputs.items()
                if rules.forces_replacement(each.token, key) or key in each.replace_on_changes
            ]
            # A part of it may follow the id.
            named = re.search(rf'{re.escape(condemned.id)}["/]', json.dumps(replacing))
            if named is None or each is condemned or urn not in self.resources:
                continue
            if each.protect:
                raise AzureError(f"{each.name} is protected and would be replaced with {condemned.name}")
            self._delete_dependents(each)
            self._delete(each)
            del self.resources[urn]

    def _checked(self, wanted: Registration, old: Deployed | None, replaced: int) -> dict[str, Any]:
        seed = str(replaced) if replaced else ""
        return self.azure.check(wanted.type, wanted.name, wanted.inputs, old=old.inputs if old else None, seed=seed)

    def _create(
        self, wanted: Registration, inputs: dict[str, Any], step: Step, replaced: int
    ) -> tuple[str, dict[str, Any]]:
        resource_id, outputs = self.azure.create(wanted.type, wanted.name, inputs)
        self._keep(wanted, resource_id, inputs, step, replaced)
        return resource_id, outputs

    def _keep(
        self, wanted: Registration, resource_id: str, inputs: dict[str, Any], step: Step, replaced: int
    ) -> None:
        with self._lock:
            self.resources[wanted.urn] = Deployed(
                resource_id,
                wanted.type,
                wanted.name,
                _without_secrets(inputs, wanted),
                protect=wanted.request.protect,
                retain=wanted.request.retainOnDelete,
                replaced=replaced,
                replace_on_changes=tuple(wanted.request.replaceOnChanges),
            )
            self.steps[wanted.urn] = step


def _at(inputs: Mapping[str, Any], path: str) -> Any:
    """The property at a path such as `sku.name`; None if there is none."""
    found: Any = inputs
    for step in path.split("."):
        found = (found or {}).get(step)
    return found


def _ignore_change(inputs: dict[str, Any], old: Mapping[str, Any], path: str) -> None:
    """Reset a property, such as `storage.storageSizeGB`, to its old value; remove it if there was none."""
    *steps, last = path.split(".")
    before: Any = old
    for step in steps:
        inputs, before = inputs.get(step) or {}, before.get(step) or {}
    if last in before:
        inputs[last] = before[last]
    else:
        inputs.pop(last, None)


def _without_secrets(inputs: Mapping[str, Any], wanted: Registration) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(inputs))
    for path in wanted.secrets:
        *steps, last = path.split(".")
        place = copy
        for step in steps:
            place = place[step]
        place[last] = digest(place[last])
    return copy
