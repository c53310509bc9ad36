"""Training of the audio and IMU towers of `mini`."""
