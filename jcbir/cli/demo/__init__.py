"""The main job from end to end: photographs in, a private search out, one table and one picture."""
