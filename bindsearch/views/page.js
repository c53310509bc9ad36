// Only one player is heard at a time.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio, video")) {
    if (player !== event.target) player.pause();
  }
}, true);
