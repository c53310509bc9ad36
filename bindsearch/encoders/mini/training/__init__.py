"""Training of the audio and IMU towers of `mini`, and the making of its class bank."""
