"""Class tables of published data sets, one CSV file each."""
