"""The member's two key pairs: one signs its card, the other agrees keys with peers."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions

from components.inputs import protect_if
from contract.card import (
    SECRET_KEY_BYTES,
    KeyGenerations,
    LinkKind,
    MembershipCard,
    next_card,
    signing_public_key,
)
from contract.fingerprint import fingerprint
from contract.key_agreement import Party, Purpose, agree, enrolment_key, link_public_key


@dataclass(frozen=True, kw_only=True)
class MembershipKeysArgs:
    """Inputs of `MembershipKeys`."""

    member: str
    """Required. The member's name."""
    generations: KeyGenerations
    """Required. Raising a generation makes a new key pair."""
    live: KeyGenerations | None = None
    """Conditional. The generations of the last update: a pair that is replaced is not protected in that run. Required
    to raise one."""
    deletion_protection: bool = True
    """Optional. Whether Pulumi refuses to delete the keys, which are nowhere else: a new card key must be agreed with
    all peers."""


class MembershipKeys(ComponentResource):
    """Random private keys, stored only in the state, encrypted. Only this component makes parts of them public."""

    link_public_key: Output[str]
    """Public key of key agreement, on the card: X25519, base64."""
    fingerprint: Output[str]
    """Fingerprint of the signing key, which peers pin: `sha256:` and 64 hex digits."""

    def __init__(self, name: str, args: MembershipKeysArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:MembershipKeys", name, None, opts)
        self._args = args
        live = args.live or args.generations
        self._link_secret = self._secret(f"{name}-link", args.generations.link, live.link)
        self._signing_seed = self._secret(f"{name}-signing", args.generations.signing, live.signing)
        self.link_public_key = Output.unsecret(self._link_secret.apply(link_public_key))
        self.fingerprint = Output.unsecret(
            self._signing_seed.apply(lambda seed: fingerprint(signing_public_key(seed)))
        )
        self.register_outputs({"link_public_key": self.link_public_key, "fingerprint": self.fingerprint})

    def _secret(self, name: str, generation: int, live: int) -> Output[bytes]:
        made = random.RandomBytes(
            name,
            length=SECRET_KEY_BYTES,
            keepers={"generation": str(generation)},
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["base64", "hex"],
                # Pulumi replaces no protected resource.
                protect=protect_if(self._args.deletion_protection and generation == live),
            ),
        )
        base64_text: Output[str] = Output.secret(made.base64)
        return base64_text.apply(base64.b64decode)

    def card(self, content: Input[Mapping[str, Any]], *, previous: object, least: int) -> Output[dict[str, Any]]:
        """The signed card, public; arguments and counter are those of `contract.card.next_card`."""
        return Output.unsecret(
            Output.all(content, self._signing_seed).apply(lambda both: next_card(both[0], both[1], previous, least))
        )

    def enrolment_key(self, peer: MembershipCard | None, authority: str) -> Output[str]:
        """The key that authenticates requests to a network authority: secret; the other side derives the same.

        Args:
            peer: the card of the other side; None if this member is both sides.
            authority: name of the member that runs the authority, one of the two.
        """
        theirs = _party(peer) if peer else None
        return self._derived(lambda secret, mine: enrolment_key(secret, mine, theirs, authority))

    def link_key(self, peer: MembershipCard, kind: LinkKind) -> Output[str]:
        """The pre-shared key of the link to `peer`: secret; the other side derives the same."""
        return self._derived(lambda secret, mine: agree(secret, mine, _party(peer), Purpose.LINK, kind))

    def _derived(self, derive: Callable[[bytes, Party], str]) -> Output[str]:
        def apply(both: list[Any]) -> str:
            secret, public_key = both
            mine = Party(name=self._args.member, public_key=public_key, generation=self._args.generations.link)
            return derive(secret, mine)

        return Output.secret(Output.all(self._link_secret, self.link_public_key).apply(apply))


def _party(peer: MembershipCard) -> Party:
    return Party(name=peer.name, public_key=peer.link_public_key, generation=peer.key_generations.link)
