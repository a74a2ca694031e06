"""What is kept between runs, and the only way to change it."""
