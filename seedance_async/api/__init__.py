"""One call to the API: all that the vendor documents."""
