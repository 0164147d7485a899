from app import CovidSegApp
from bundle_app.bundle_application import main

if __name__ == "__main__":
    main(CovidSegApp)
