"""The embedded world that mini learns: subjects, places, cameras, styles, and clips drawn from them with their truth."""
