"""What the report stage looks at beside its own run: copies of training images, and runs of other seeds."""
