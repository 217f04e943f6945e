"""What tests and benchmarks share: process starters, HTTP clients, drawn faces, fakes, small networks."""
