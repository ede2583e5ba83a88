"""The Azure checklist, as functions over a stack's resources, which tests and the Pulumi policy pack share."""
