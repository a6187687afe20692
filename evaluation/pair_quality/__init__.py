"""What teachers and filters say of single generated pairs."""
