"""Pictures of a member and of a consortium, drawn from what their stacks register, as SVG and as Mermaid."""
