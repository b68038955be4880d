"""What people look at after a run, and what is checked about its rows."""
