"""What a sample's UTC rests on: the sample clock, the system clock, and who vouches for it."""
