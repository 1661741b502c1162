"""For people to look at: what a mapping says, as tables in a terminal or as plain lines."""
