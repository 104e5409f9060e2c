"""Archives read where they are: zip, split zip and tar through one interface, and extraction that is safe."""
