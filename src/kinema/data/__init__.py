"""From clips to what training reads: rendered shards, encoded shards, and the pools that draw batches from them."""
