"""What is done with each noun, for REST, managers and the CLI alike: values in, values out, no HTTP."""
