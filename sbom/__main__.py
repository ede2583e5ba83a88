"""Writes the software bill of materials as CycloneDX 1.6: `python -m sbom [FILE]`.

Needs no network. The same versions give the same file. Exits with 1 if a waiver has expired.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as CycloneComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from sbom.components import Component, deployed
from sbom.waivers import WaiverError, read_waivers


def bill(components: Sequence[Component]) -> str:
    """The bill of materials as CycloneDX JSON; a package that several programs use is listed once."""
    packages: dict[str, list[Component]] = {}
    for each in components:
        packages.setdefault(str(each.purl), []).append(each)
    bom = Bom(
        components=[
            CycloneComponent(
                type=ComponentType.LIBRARY,
                bom_ref=purl,
                group=same[0].purl.namespace,
                name=same[0].purl.name,
                version=same[0].purl.version,
                purl=same[0].purl,
                hashes=[
                    HashType(alg=HashAlgorithm.SHA_256, content=digest)
                    for digest in sorted({digest for each in same for digest in each.digests})
                ],
                properties=[Property(name="decentralized-trust:used-by", value=each.used_by) for each in same],
            )
            for purl, same in packages.items()
        ]
    )
    # A timestamp and a serial number would differ from run to run and hide real changes.
    bom.metadata.timestamp = datetime(1970, 1, 1, tzinfo=UTC)
    bom.serial_number = None  # type: ignore[assignment]
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Write the bill to a file, or to standard output; returns the exit status."""
    text = bill(deployed())
    if arguments:
        Path(arguments[0]).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    try:
        read_waivers(datetime.now(UTC).date())
    except WaiverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
