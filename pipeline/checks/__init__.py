"""What would stop a run late, asked before anything is made."""
