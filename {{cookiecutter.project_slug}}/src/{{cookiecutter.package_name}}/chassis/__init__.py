"""The chassis: what every service of this kind stands on."""
