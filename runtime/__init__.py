"""What any run needs to start, be recorded and be restarted. Imports no other Textmill package."""
