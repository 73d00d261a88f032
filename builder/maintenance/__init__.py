"""What is done with a store after its build: verify, repair and compact it."""
