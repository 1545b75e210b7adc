"""What an operator asks of a live database: what is wrong with it (`doctor`), and what it consists of (`schema`)."""
