"""Many uploads through the local stack, with faults if wanted, and the accounts at the end."""
