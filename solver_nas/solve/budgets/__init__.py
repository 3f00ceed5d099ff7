"""Parts with budgets on products of sizes: a price on each budget, a bound, and a search in what it leaves open."""
