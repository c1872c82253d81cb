"""Training: one loop, the tasks that it trains, and what lets a killed run go on."""
