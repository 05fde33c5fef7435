"""The middle: takes detections over MQTT, works out which belong to one bang, locates it and tells people."""
