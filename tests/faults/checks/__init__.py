"""What must hold after every scenario, judged by the model over a recording of all that was sent, kept and shown."""
