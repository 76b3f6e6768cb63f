"""What machines differ in. Each file opens with the plain definition, then the tuned way; model/ asks neither."""
