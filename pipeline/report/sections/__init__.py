"""The parts of the report's page: numbers, and what the page says of them."""
