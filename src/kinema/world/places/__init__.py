"""The places of the world, each drawn by hand in numpy; `kinema.world.scenes` is the door to them."""
