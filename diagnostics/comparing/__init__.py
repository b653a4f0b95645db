"""Two to seven runs in one picture: what differs in their settings, and what that did."""
