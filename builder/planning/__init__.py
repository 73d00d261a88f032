"""What a build is going to do: its sources and options, compared with what the store holds."""
