"""The member's two key pairs: one signs its card, the other agrees keys with the peers."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi_random as random
from pulumi import ComponentResource, Input, Output, ResourceOptions

import membership
from membership import LinkKind, Party, Purpose


@dataclass(frozen=True, kw_only=True)
class MembershipKeysArgs:
    """Inputs of `MembershipKeys`."""

    member: str
    """Required. The member's name."""
    generations: membership.KeyGenerations
    """Required. A raised generation makes a new key pair."""


class MembershipKeys(ComponentResource):
    """Random secrets that never leave the state, encrypted there; what is public is marked so here and only here."""

    link_public_key: Output[str]
    """X25519, base64: stands on the card."""
    fingerprint: Output[str]
    """`sha256:` of the signing key: what a peer pins."""

    def __init__(self, name: str, args: MembershipKeysArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("decentralized-trust:azure:MembershipKeys", name, None, opts)
        self._args = args
        self._link_secret = self._secret(f"{name}-link", args.generations.link)
        self._signing_seed = self._secret(f"{name}-signing", args.generations.signing)
        self.link_public_key = Output.unsecret(self._link_secret.apply(membership.link_public_key))
        self.fingerprint = Output.unsecret(
            self._signing_seed.apply(lambda seed: membership.fingerprint(membership.signing_public_key(seed)))
        )
        self.register_outputs({"link_public_key": self.link_public_key, "fingerprint": self.fingerprint})

    def _secret(self, name: str, generation: int) -> Output[bytes]:
        made = random.RandomBytes(
            name,
            length=membership.SECRET_KEY_BYTES,
            keepers={"generation": str(generation)},
            opts=ResourceOptions(
                parent=self,
                additional_secret_outputs=["base64", "hex"],
            ),
        )
        base64_text: Output[str] = Output.secret(made.base64)
        return base64_text.apply(base64.b64decode)

    def sign(self, card: Input[Mapping[str, Any]]) -> Output[dict[str, Any]]:
        """The card with its signing key and signature: public."""
        return Output.unsecret(
            Output.all(card, self._signing_seed).apply(lambda both: membership.sign(both[0], both[1]))
        )

    def enrolment_key(self, peer: membership.MembershipCard | None, authority: str) -> Output[str]:
        """What proves requests to a network authority: secret, and derived alike on the other side.

        Args:
            peer: the other side; None where it is this member too.
            authority: the member that is the authority, one of both.
        """
        theirs = _party(peer) if peer else None
        return self._derived(lambda secret, mine: membership.enrolment_key(secret, mine, theirs, authority))

    def link_key(self, peer: membership.MembershipCard, kind: LinkKind) -> Output[str]:
        """The pre-shared key of the link to `peer`: secret, and derived alike on the other side."""
        return self._derived(lambda secret, mine: membership.agree(secret, mine, _party(peer), Purpose.LINK, kind))

    def _derived(self, derive: Callable[[bytes, Party], str]) -> Output[str]:
        def apply(both: list[Any]) -> str:
            secret, public_key = both
            mine = Party(name=self._args.member, public_key=public_key, generation=self._args.generations.link)
            return derive(secret, mine)

        return Output.secret(Output.all(self._link_secret, self.link_public_key).apply(apply))


def _party(peer: membership.MembershipCard) -> Party:
    return Party(name=peer.name, public_key=peer.link_public_key, generation=peer.key_generations.link)
