"""What all routes share that ask a deployed model: finding its engine, and saying why it can't answer."""
