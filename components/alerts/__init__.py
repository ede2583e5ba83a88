"""Alert rules on the member's resources, and who gets their mail. Each rule is a row of a table."""

from components.alerts.args import AlertsArgs, PeerInstance, Watched
from components.alerts.component import Alerts

__all__ = ["Alerts", "AlertsArgs", "PeerInstance", "Watched"]
