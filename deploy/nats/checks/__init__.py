"""What check_permissions.py and check_tenants.py are made of."""
