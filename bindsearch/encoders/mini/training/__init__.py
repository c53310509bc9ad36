"""Training of the audio and IMU towers of `mini`, and computation of its class bank."""
