"""What the in-process front keeps of a stack, and how it brings Azure to what the program registers."""

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from offline.azure import Subscription, digest
from offline.recorder import Registration
from offline.rules import AzureError


class Step(StrEnum):
    """What was done to a resource, in the engine's words."""

    SAME = "same"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass
class Deployed:
    """One resource of the stack as it was last deployed; of a secret input a digest."""

    id: str
    token: str
    name: str
    inputs: dict[str, Any]
    protect: bool
    retain: bool
    replaced: int = 0
    """How often it was made anew: part of its automatic name."""


@dataclass
class Deployment:
    """One stack: its resources by URN, its outputs, and what the run at hand does to them."""

    azure: Subscription
    resources: dict[str, Deployed] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    superseded: list[Deployed] = field(default_factory=list)
    """What was made anew and is still in Azure: until a run comes to its end."""
    steps: dict[str, Step] = field(default_factory=dict)
    """What the last run did, by URN."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @staticmethod
    def load(azure: Subscription, path: Path) -> "Deployment":
        """The stack in a file; an empty one where there is none."""
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
        """How many resources the last run made, changed, replaced and removed; empty where nothing changed."""
        return dict(Counter(step.value for step in self.steps.values() if step is not Step.SAME))

    def begin(self) -> None:
        """Forget what the last run did."""
        self.steps = {}

    def apply(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        """Bring one resource to what the program wants; its id and outputs.

        Raises:
            AzureError: Azure would refuse it, or the resource is protected and would have to be replaced.
        """
        with self._lock:
            old = self.resources.get(wanted.urn)
        replaced = old.replaced if old else 0
        inputs = self._checked(wanted, old, replaced)
        if old is None:
            return self._create(wanted, inputs, Step.CREATE, 0)
        changed = self.azure.diff(wanted.type, old.inputs, _without_secrets(inputs, wanted))
        if any(changed.values()) or set(changed) & set(wanted.request.replaceOnChanges):
            if wanted.request.protect:
                raise AzureError(
                    f"{wanted.name} is protected and would be replaced, since {', '.join(changed)} changed"
                )
            if wanted.request.deleteBeforeReplace:
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
        """Remove what the program no longer wants, the newest first.

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
        """Remove everything, protected or not, the newest first."""
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
            )
            self.steps[wanted.urn] = step


def _without_secrets(inputs: Mapping[str, Any], wanted: Registration) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(inputs))
    for path in wanted.secrets:
        *steps, last = path.split(".")
        place = copy
        for step in steps:
            place = place[step]
        place[last] = digest(place[last])
    return copy
